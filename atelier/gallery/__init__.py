"""The built-in archive: a painter of seascapes, and a server that offers them as WikiArt would."""
