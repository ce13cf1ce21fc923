"""What is stored, while those who change it are killed."""
