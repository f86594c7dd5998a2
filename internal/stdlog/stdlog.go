package stdlog

import (
	"io"
	"log"
)

// Silence drops what the default logger is given from now on, and what [log/slog]'s
// default one is, which writes through it.
func Silence() { log.SetOutput(io.Discard) }
