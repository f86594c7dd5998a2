package address

// OnThread lets the tests enter namespaces the way the package does.
var OnThread = onThread
