package main

import (
	"context"

	"github.com/antievilmaid/aem/internal/plymouth"
	"github.com/antievilmaid/aem/ui"
)

// curtain is a screen behind the picture that plymouthd shows while the system
// boots. What takes time is said on the picture; for everything else the picture is
// taken away, because it shows one short line and keeps what it is told, and because
// what is typed into it is later tried as a passphrase on the disks.
type curtain struct {
	ui.Screen
	plymouth *plymouth.Client
	said     string // on the picture
	open     bool
}

// behindPicture returns the screen as it is where no plymouthd runs.
func behindPicture(ctx context.Context, address string, screen ui.Screen) ui.Screen {
	client, err := plymouth.Dial(ctx, address)
	if err != nil {
		return screen
	}
	return &curtain{Screen: screen, plymouth: client}
}

// raise takes the picture away. A plymouthd that does not go away is drawn over: the
// proof matters more than the picture.
func (c *curtain) raise(ctx context.Context) {
	if c.open {
		return
	}
	c.open = true
	if c.said != "" {
		_ = c.plymouth.HideMessage(ctx, c.said)
	}
	_ = c.plymouth.Deactivate(ctx)
}

func (c *curtain) Progress(text string) {
	if c.open || c.plymouth.ShowMessage(context.Background(), text) != nil {
		c.Screen.Progress(text)
		return
	}
	c.said = text
}

func (c *curtain) ShowProof(ctx context.Context, p ui.Proof) (ui.Answer, error) {
	c.raise(ctx)
	return c.Screen.ShowProof(ctx, p)
}

func (c *curtain) ShowRefusal(ctx context.Context, r ui.Refusal) (ui.Answer, error) {
	c.raise(ctx)
	return c.Screen.ShowRefusal(ctx, r)
}

func (c *curtain) ShowNotice(ctx context.Context, n ui.Notice) error {
	c.raise(ctx)
	return c.Screen.ShowNotice(ctx, n)
}

func (c *curtain) Ask(ctx context.Context, q ui.Question) ([]byte, error) {
	c.raise(ctx)
	return c.Screen.Ask(ctx, q)
}

// Close clears the terminal before the picture comes back. What plymouthd says to
// that is no reason to prove the machine once more.
func (c *curtain) Close() error {
	err := c.Screen.Close()
	if c.open {
		_ = c.plymouth.Reactivate(context.Background())
	} else if c.said != "" {
		_ = c.plymouth.HideMessage(context.Background(), c.said)
	}
	_ = c.plymouth.Close()
	return err
}
