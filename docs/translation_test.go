package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeIsTranslated holds README.zh.md to README.md in what needs no Chinese: the same headings and rows of tables, code
// blocks, words in backquotes and links, in the same order. Whoever changes one changes the other.
func TestReadmeIsTranslated(t *testing.T) {
	t.Parallel()
	english, chinese := skeleton(t, "../README.md"), skeleton(t, "../README.zh.md")
	for _, what := range []string{"heading", "row", "block", "word", "link"} {
		if len(english[what]) == 0 {
			t.Errorf("found no %s in README.md", what)
		}
		if !slices.Equal(english[what], chinese[what]) {
			t.Errorf("each %s of README.md\n%q\nand of README.zh.md\n%q", what, english[what], chinese[what])
		}
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	heading = regexp.MustCompile(`(?m)^#+ `)
	row     = regexp.MustCompile(`(?m)^\|.*\|$`)
	quoted  = regexp.MustCompile("`[^`]+`")
	target  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// skeleton is what a page has beside its sentences. Words and links may stand in another order within a paragraph: they are sorted
// paragraph by paragraph.
func skeleton(t *testing.T, page string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{"block": fenced.FindAllString(string(b), -1)}
	text := fenced.ReplaceAllString(string(b), "")
	found["heading"] = heading.FindAllString(text, -1)
	for range row.FindAllString(text, -1) {
		found["row"] = append(found["row"], "|")
	}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		words, links := quoted.FindAllString(paragraph, -1), []string(nil)
		for _, m := range target.FindAllStringSubmatch(paragraph, -1) {
			if !strings.HasPrefix(m[1], "README.") { // of one language to the other
				links = append(links, m[1])
			}
		}
		slices.Sort(words)
		slices.Sort(links)
		found["word"], found["link"] = append(found["word"], words...), append(found["link"], links...)
	}
	return found
}
