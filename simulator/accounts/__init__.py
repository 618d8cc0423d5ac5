"""Trading accounts of simulated venues: state, script, credentials, and the service that venues build on."""
