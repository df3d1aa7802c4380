//go:build linux

package main

import (
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strings"
)

// Sizes of a drawing, in pixels.
const (
	labelsWide = 460
	plotWide   = 480
	rowHigh    = 22
	titleHigh  = 40
	curveHigh  = 260
	margin     = 70
)

var colours = []string{"#3b6ea8", "#c8743c", "#4f9153", "#a04a4a", "#7d7d7d", "#7a5ea8", "#b59b2d"}

// canvas is an SVG that is being written.
type canvas struct{ strings.Builder }

func newCanvas(title string, wide, high int) *canvas {
	c := &canvas{}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", wide, high)
	fmt.Fprintf(c, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	c.text(10, 22, "start", title)
	return c
}

// text is anchored at its start, middle or end.
func (c *canvas) text(x, y float64, anchor, s string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

func (c *canvas) rect(x, y, w, h float64, colour string) {
	fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, w, h, colour)
}

func (c *canvas) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func (c *canvas) end() string {
	c.WriteString("</svg>\n")
	return c.String()
}

// stacks are rows whose parts stand beside each other; "" when there are none.
func stacks(title string, rows []bar) string {
	most, seen := 0.0, []string(nil)
	for _, b := range rows {
		sum := 0.0
		for _, p := range b.parts {
			sum += p.value
			if !slices.Contains(seen, p.name) {
				seen = append(seen, p.name)
			}
		}
		most = max(most, sum)
	}
	if most == 0 {
		return ""
	}
	c := newCanvas(title, labelsWide+plotWide+margin, titleHigh+rowHigh*(len(rows)+2))
	for i, name := range seen {
		x := float64(labelsWide + i*95)
		c.rect(x, titleHigh-8, 10, 10, colours[i%len(colours)])
		c.text(x+14, titleHigh+1, "start", name)
	}
	for i, b := range rows {
		x, y, sum := float64(labelsWide), float64(titleHigh+rowHigh*(i+1)), 0.0
		c.text(x-8, y+13, "end", b.label)
		for _, p := range b.parts {
			wide := p.value / most * plotWide
			c.rect(x, y, wide, rowHigh-6, colours[slices.Index(seen, p.name)%len(colours)])
			x, sum = x+wide, sum+p.value
		}
		c.text(x+6, y+13, "start", short(sum))
	}
	return c.end()
}

// bars are rows on a logarithmic scale around 1; "" when there are none.
func bars(title string, rows []bar) string {
	if len(rows) == 0 {
		return ""
	}
	const decades = 2.0 // to either side
	c := newCanvas(title, labelsWide+plotWide+margin, titleHigh+rowHigh*(len(rows)+1))
	middle := float64(labelsWide + plotWide/2)
	for i, b := range rows {
		y, v := float64(titleHigh+rowHigh*i), b.parts[0].value
		far := max(-decades, min(decades, math.Log10(v))) / decades * plotWide / 2
		colour := colours[2]
		if far < 0 {
			colour = colours[3]
		}
		c.text(labelsWide-8, y+13, "end", b.label)
		c.rect(min(middle, middle+far), y, math.Abs(far), rowHigh-6, colour)
		c.text(max(middle, middle+far)+6, y+13, "start", short(v))
	}
	c.line(middle, titleHigh-6, middle, float64(titleHigh+rowHigh*len(rows)), "black")
	return c.end()
}

// curves are lines over sizes, which lie on a logarithmic scale; values begin at 0.
func curves(title string, lines map[string][]point) string {
	least, largest, most := math.Inf(1), 0.0, 0.0
	for _, points := range lines {
		for _, p := range points {
			least, largest, most = min(least, p.size), max(largest, p.size), max(most, p.value)
		}
	}
	if most == 0 || least == largest {
		return ""
	}
	x := func(size float64) float64 {
		return margin + (math.Log(size)-math.Log(least))/(math.Log(largest)-math.Log(least))*plotWide
	}
	y := func(v float64) float64 { return titleHigh + curveHigh - v/most*curveHigh }
	c := newCanvas(title, margin+plotWide+200, titleHigh+curveHigh+40)
	c.line(margin, y(0), margin+plotWide, y(0), "black")
	c.line(margin, y(0), margin, y(most), "black")
	c.text(margin-6, y(most)+4, "end", short(most))
	c.text(margin-6, y(0)+4, "end", "0")
	for i, name := range slices.Sorted(maps.Keys(lines)) {
		points, colour := lines[name], colours[i%len(colours)]
		for j, p := range points {
			if j > 0 {
				c.line(x(points[j-1].size), y(points[j-1].value), x(p.size), y(p.value), colour)
			}
			c.rect(x(p.size)-2, y(p.value)-2, 4, 4, colour)
			if i == 0 {
				c.text(x(p.size), y(0)+18, "middle", short(p.size))
			}
		}
		c.rect(margin+plotWide+20, float64(titleHigh+i*rowHigh), 10, 10, colour)
		c.text(margin+plotWide+36, float64(titleHigh+i*rowHigh)+9, "start", name)
	}
	return c.end()
}
