"""What is known of each family: how it is drawn, scored, differentiated and named."""
