//go:build tools

// Package tools pins h2spec and what it is built from: h2spec itself has no go.mod.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
