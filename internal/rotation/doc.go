// Package rotation changes the secrets of a running container: the heart of DSO.
//
// A rotation is planned by pure functions ([Choose], [Replacement]) from what was
// observed, and carried out by [Machine], one idempotent step at a time. Read
// strategy.go, then steps.go, then machine.go.
//
// States. An [Entry] moves through the steps of its strategy's program, forward,
// until it is completed; or, before the step that retires the original, turns
// back once and moves through the program's way back until it is rolled back.
// It never turns forward again. When somebody else took the original or its place,
// it ends by a rescue instead, a [Phase] of its own (rescue.go).
//
// Invariants:
//   - The journal names a step before the step has any effect, and everything a
//     step will create is named in the journal before it is created.
//   - Every step can be run twice: finding its effect already there is success.
//   - Recovery is the same code: open the journal, run what is pending.
//   - A container is removed only if the journal says that this rotation made it
//     or replaced it, and the place it leaves is held by another container.
//   - The original and the replacement are pinned to their versions for as long
//     as the rotation runs, so a crash restart of either never mixes versions.
//   - No secret value passes through this package: it knows versions only.
package rotation
