// Package window owns the times at which rotations may begin: a cron expression that
// opens a window, and how long it stays open. It is pure.
package window
