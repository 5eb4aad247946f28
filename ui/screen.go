package ui

import (
	"bytes"
	"context"
)

// terminal shows pages in one of the two ways: drawn, or printed.
type terminal interface {
	// show shows a page until it is answered, and returns the sheet with what was typed.
	show(context.Context, *page) (*sheet, error)
	Progress(text string)
	Close() error
}

// screen is the [Screen] on a terminal.
type screen struct{ terminal }

// decide shows a page that is answered by a decision.
func (s screen) decide(ctx context.Context, p *page) (Answer, error) {
	sheet, err := s.show(ctx, p)
	if err != nil {
		return Rejected, err
	}
	return sheet.answer, nil
}

func (s screen) ShowProof(ctx context.Context, p Proof) (Answer, error) {
	return s.decide(ctx, proofPage(&p))
}

func (s screen) ShowRefusal(ctx context.Context, r Refusal) (Answer, error) {
	return s.decide(ctx, refusalPage(&r))
}

func (s screen) ShowNotice(ctx context.Context, n Notice) error {
	_, err := s.decide(ctx, noticePage(&n))
	return err
}

func (s screen) Ask(ctx context.Context, q Question) ([]byte, error) {
	sheet, err := s.show(ctx, questionPage(&q))
	if err != nil {
		return nil, err
	}
	answer := bytes.Clone(sheet.typed)
	sheet.forget()
	return answer, nil
}
