// Package providertest owns the conformance suite of provider.Provider. Every
// implementation runs it against a store of its kind, real or faked on the wire.
package providertest
