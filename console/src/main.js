import { Connection } from "./connection.js";
import { mount } from "./live/index.js";
mount(document.getElementById("page"), new Connection());
