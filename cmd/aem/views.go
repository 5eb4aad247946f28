package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/ui"
)

// proofView is a proof as the screen shows it.
func proofView(p *aem.Proof, now time.Time) ui.Proof {
	v := ui.Proof{
		Secret:   p.Secret,
		Identity: aem.Words(p.Record.TPM),
		Medium:   fmt.Sprintf("generation %d, %s", p.Record.Generation, p.State),
		Time:     now,
		Took:     p.Took,
	}
	v.Grade, v.Weak = p.Boot.Grade()
	if c := p.Codes; c != nil {
		v.Code, v.Phone = c.At, c.Issuer+", "+c.Account
		v.Clock = clockDoubt(c)
	}
	return v
}

// clockDoubt is why the clock is not believed, as a sentence; empty where it is.
func clockDoubt(c *aem.Codes) string {
	if c == nil || c.Doubt == nil {
		return ""
	}
	text := c.Doubt.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// refusalView is a refusal as the screen shows it.
func refusalView(r *aem.Refusal) ui.Refusal {
	v := ui.Refusal{
		Title: "THIS MACHINE DID NOT PROVE ITSELF",
		Cause: r.Sentence(),
		Hint:  r.Advice(),
		Code:  int(r.Exit()),
	}
	for _, c := range r.Changes {
		v.Changes = append(v.Changes, ui.ChangeView{What: c.What, Before: c.Before, After: c.After})
	}
	if len(r.Changes) == 0 {
		v.Detail = r.Detail
	}
	return v
}

// askPIN asks for the PIN on the screen.
func askPIN(screen ui.Screen) aem.AskPIN {
	return func(ctx context.Context, wrong *aem.Guesses) ([]byte, error) {
		q := ui.Question{
			Title: "PIN", Prompt: "PIN: ", Secret: true, MaxLen: 64,
			Hint: "The secret that follows is the proof. The PIN is not your passphrase.",
		}
		if wrong != nil {
			q.Error = "The PIN is wrong. " + wrong.String()
		}
		pin, err := screen.Ask(ctx, q)
		if err == nil && len(pin) == 0 {
			return nil, aem.ErrCancelled
		}
		return pin, err
	}
}
