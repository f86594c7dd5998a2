// Package legacy deals with what the older implementation left behind: containers
// called <name>_old_<time>, <name>_dso_backup_<time> or <name>_dso_new_<time> that
// carry none of our labels, and its lock files.
//
// [Find] and [Plan] are pure. Nothing is done but what a person asked for, and what
// is done is decided from facts: a name proves nothing, for users call containers so
// too. Whatever is not clear is only reported, with the commands to run.
//
// Invariants:
//   - A container is removed only when the one that it is a copy of runs, and is
//     healthy where it has a health check; looked at again right before.
//   - Volumes are kept. A copy that has a volume which the other one does not have
//     is not removed.
//   - A name is given only to a container that became healthy.
//   - What a rotation of ours is about is left to that rotation.
package legacy
