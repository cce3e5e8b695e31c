"""Touch the outside world: the listener, authentication, providers."""
