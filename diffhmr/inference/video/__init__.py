"""From videos and their 2D keypoints to the motion of the people in them."""
