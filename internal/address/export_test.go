package address

// OnThread lets the tests enter namespaces the way the package does.
var OnThread = onThread

// The two ways to the listening sockets of a process.
var (
	AskListening  = askListening
	ReadListening = readListening
)
