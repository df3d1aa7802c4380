// CSV that the page writes and reads itself.

/** A cell of free text: one that a spreadsheet would take for a formula gets an apostrophe in front. */
export const guarded = (s: string) => (/^[=+\-@\t\r]/.test(s) ? "'" + s : s);

const cell = (s: string) => (/[",\r\n]/.test(s) ? '"' + s.replaceAll('"', '""') + '"' : s);

/** Lines of RFC 4180. All cells are taken for free text. */
export const toCSV = (rows: string[][]) => rows.map((r) => r.map((c) => cell(guarded(c))).join(",") + "\r\n").join("");

export type Row = { line: number; cells: string[] };

/** Reads CSV; `open` is the line of a quote that is never closed. */
export function fromCSV(text: string): { rows: Row[]; open?: number } {
  const rows: Row[] = [];
  let cells: string[] = [], value = "", quoted = false, line = 1, began = 1, quoteAt = 1;
  const endCell = () => { cells.push(value); value = ""; };
  const endRow = () => {
    endCell();
    if (cells.length > 1 || cells[0] !== "") rows.push({ line: began, cells });
    cells = [];
  };
  if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\n") line++;
    if (quoted) {
      if (c !== '"') value += c;
      else if (text[i + 1] === '"') { value += '"'; i++; }
      else quoted = false;
    } else if (c === '"' && value === "") { quoted = true; quoteAt = line; }
    else if (c === ",") endCell();
    else if (c === "\n") { endRow(); began = line; }
    else if (c !== "\r") value += c;
  }
  if (quoted) return { rows, open: quoteAt };
  if (value !== "" || cells.length > 0) endRow();
  return { rows };
}

/** Gives the browser a file to save. */
export function save(name: string, content: Blob | string, type = "text/csv;charset=utf-8") {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
