"""Plain values that every other part reads: training settings, transforms, seeds, and two interfaces. They
import no other part."""
