"""Who asks, and what they may: visitors, their roles, and the one table of rights."""
