// Package bench measures what DSO costs at the start of a program or container, and
// while nothing happens, and holds it to its limits. It prints one line for machines; see the test.
package bench
