"""What runs, described for others: AsyncAPI of a configuration and its model cards."""
