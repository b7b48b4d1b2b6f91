"""What all tabs share: the declaration of a lesson, its named parts, events, messages, pictures, charts, serving."""
