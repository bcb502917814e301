"""How synthetic people are painted: bodies in clothes, before backgrounds and behind objects, through a camera."""
