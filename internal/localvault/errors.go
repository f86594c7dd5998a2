package localvault

import "errors"

// Sentinels wrapped by the errors of this package.
var (
	// ErrNoVault: nobody has made a vault here yet. [Init] makes one.
	ErrNoVault = errors.New("there is no vault")
	// ErrNoKey: the vault holds secrets, but its key file is gone or unreadable as a key.
	ErrNoKey = errors.New("the vault's key is missing")
	// ErrMode: others than the owner could read the key or enter the directory.
	ErrMode = errors.New("not private")
	// ErrNotFound: the vault has no such secret.
	ErrNotFound = errors.New("no such secret")
	// ErrNoVersion: the secret has no such version, or no longer.
	ErrNoVersion = errors.New("no such version")
	// ErrEmpty: an empty value, which is usually a mistake, was not asked for.
	ErrEmpty = errors.New("the value is empty")
	// ErrTooLarge: the value is longer than [MaxValueSize].
	ErrTooLarge = errors.New("the value is too large")
	// ErrBadName: the name cannot be that of a secret in this vault.
	ErrBadName = errors.New("not a valid name")
	// ErrWrongKey: the file was written with another key, or its header is damaged.
	ErrWrongKey = errors.New("not readable with this vault's key")
	// ErrDamaged: the file is not what this package wrote.
	ErrDamaged = errors.New("damaged")
	// ErrNewer: a newer DSO wrote the file.
	ErrNewer = errors.New("written by a newer version of DSO")
	// ErrBusy: another process held the vault until the context ended.
	ErrBusy = errors.New("the vault is in use by another process")
)
