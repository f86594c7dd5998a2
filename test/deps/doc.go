// Package deps tests what the programs link: it is part of their contract that
// the ones that run often start in milliseconds.
package deps
