// Package stdlog owns what becomes of Go's default logger: nothing.
//
// Libraries write to it what nobody asked for. net/http quotes the bytes that a server
// sends beyond the length that it has promised, which may be a part of a value.
//
// Invariant: every program of ours silences it before it does anything else, and so
// does whoever makes a transport to a store. What we log goes through log/slog.
package stdlog
