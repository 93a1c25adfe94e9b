"""What must hold before an engine with the plugin answers anybody, or else is refused."""
