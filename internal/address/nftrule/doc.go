// Package nftrule owns the words from which the rules of a front and of the fast
// lane are made: one function for each condition or act that nft's own syntax has a
// word for; and [Send], for what the library has no words for. It keeps nothing.
package nftrule
