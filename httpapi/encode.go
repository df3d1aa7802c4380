package httpapi

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/danielgtaylor/huma/v2"

	"meterline/command"
)

// jsonFormat is huma's, but that operations which come encoded are not decoded to be encoded again: polls are mostly that.
var jsonFormat = huma.Format{Marshal: encode, Unmarshal: huma.DefaultJSONFormat.Unmarshal}

func encode(w io.Writer, v any) error {
	if c, is := v.(command.View); is && c.Encoded != nil {
		return encodeCommand(w, c)
	}
	return huma.DefaultJSONFormat.Marshal(w, v)
}

// encodeCommand writes a command whose operations come encoded as the others are written.
func encodeCommand(w io.Writer, v command.View) error {
	links, err := json.Marshal(v.Links)
	if err != nil {
		return err
	}
	raw := v.Encoded
	v.Operations, v.Links = nil, nil
	var b bytes.Buffer
	if err := huma.DefaultJSONFormat.Marshal(&b, v); err != nil {
		return err
	}
	b.Truncate(bytes.LastIndexByte(b.Bytes(), '}'))
	b.WriteString(`,"operations":[`)
	for i, o := range raw {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(o)
	}
	b.WriteString(`],"links":`)
	b.Write(links)
	b.WriteString("}\n")
	_, err = w.Write(b.Bytes())
	return err
}
