"""What is done with a trained model: evaluated on new data, handed to the hub, exported."""
