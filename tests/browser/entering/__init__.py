"""Ways to a page of the portal: through a share link, under a path prefix."""
