package main

import (
	"encoding/json"
	"io"
)

// encode writes one line of JSON.
func encode(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
