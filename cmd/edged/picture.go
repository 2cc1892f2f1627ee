package main

import (
	"context"

	"edged/internal/web"
)

// picture is GET /api/v1/cameras/{id}/snapshot.jpg.
func (g *gateway) picture(ctx context.Context, camera string, width int) (web.Snapshot, error) {
	s, err := g.cameras.Snapshot(ctx, camera, width)
	return web.Snapshot{JPEG: s.JPEG, Captured: s.Captured, Width: s.Width}, err
}
