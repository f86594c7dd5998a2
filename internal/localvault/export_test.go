package localvault

// Lock lets a test hold the vault as another process would.
var Lock = lock
