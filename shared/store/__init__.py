"""Redis: connections, atomic steps, and a module for each kind of record that lies there."""
