// All that this service adds to Chainlit's page.
import "./banner.js";
import "./download.js";
import "./length.js";
import "./names.js";
import "./reading.js";
import "./login.js";
