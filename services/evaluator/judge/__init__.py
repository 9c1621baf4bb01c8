"""What is said of episodes that have been played: statistics, comparisons, reports, and where they are kept."""
