package rotation

// Ends is ends, for the tests.
var Ends = ends
