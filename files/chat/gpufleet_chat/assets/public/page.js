// All that this service adds to Chainlit's page.
import "./banner.js";
import "./download.js";
import "./login.js";
