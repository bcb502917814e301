"""Miniature official releases: the folder trees and file formats of the data sets, with a few synthetic people."""
