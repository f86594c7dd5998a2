package reconcile

// QueueSize is how many events the queue holds.
const QueueSize = queueSize
