// The page of the operations centre. Other people's text is never markup here: only text nodes are made of it.

import { render } from "preact";
import { App } from "./app";
import "./style.css";

render(<App />, document.getElementById("app")!);
