"""The wire form of every contract, frozen: one JSON file each, written from `examples`."""
