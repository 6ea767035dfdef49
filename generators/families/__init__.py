"""One file a family of models: how to build, train, load and save it."""
