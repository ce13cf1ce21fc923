"""Ways to a page of the portal: by a share link, under a path."""
