package main

import (
	"testing"

	"github.com/antievilmaid/aem/internal/manpage"
)

func TestManualPage(t *testing.T) { manpage.Check(t, newCommand()) }
