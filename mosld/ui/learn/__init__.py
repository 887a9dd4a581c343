"""The room Learn: lessons with their picture beside the text, on a recorded run or on one's own."""
