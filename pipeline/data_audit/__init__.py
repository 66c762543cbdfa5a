"""What is doubled, labelled twice or different between the splits of a data set."""
