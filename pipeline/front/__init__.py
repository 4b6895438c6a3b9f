"""What the front door says: descriptions of its objects, and what is wrong with arguments."""
