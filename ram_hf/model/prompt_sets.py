"""CLIP's sentences around a label, in sets by name: data alone.

"openai-80" and "openai-7" are the templates for ImageNet of OpenAI's notebook `Prompt_Engineering_for_ImageNet`
(https://github.com/openai/CLIP), in its order, as they are. They come under this licence:

MIT License

Copyright (c) 2021 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

# Models are saved with the name of a set: what a name stands for never changes.
PROMPT_SETS: dict[str, tuple[str, ...]] = {
    "photo": ("A photo of a {label}.",),
    "openai-7": (
        "itap of a {label}.",
        "a bad photo of the {label}.",
        "a origami {label}.",
        "a photo of the large {label}.",
        "a {label} in a video game.",
        "art of the {label}.",
        "a photo of the small {label}.",
    ),
    "openai-80": (
        "a bad photo of a {label}.",
        "a photo of many {label}.",
        "a sculpture of a {label}.",
        "a photo of the hard to see {label}.",
        "a low resolution photo of the {label}.",
        "a rendering of a {label}.",
        "graffiti of a {label}.",
        "a bad photo of the {label}.",
        "a cropped photo of the {label}.",
        "a tattoo of a {label}.",
        "the embroidered {label}.",
        "a photo of a hard to see {label}.",
        "a bright photo of a {label}.",
        "a photo of a clean {label}.",
        "a photo of a dirty {label}.",
        "a dark photo of the {label}.",
        "a drawing of a {label}.",
        "a photo of my {label}.",
        "the plastic {label}.",
        "a photo of the cool {label}.",
        "a close-up photo of a {label}.",
        "a black and white photo of the {label}.",
        "a painting of the {label}.",
        "a painting of a {label}.",
        "a pixelated photo of the {label}.",
        "a sculpture of the {label}.",
        "a bright photo of the {label}.",
        "a cropped photo of a {label}.",
        "a plastic {label}.",
        "a photo of the dirty {label}.",
        "a jpeg corrupted photo of a {label}.",
        "a blurry photo of the {label}.",
        "a photo of the {label}.",
        "a good photo of the {label}.",
        "a rendering of the {label}.",
        "a {label} in a video game.",
        "a photo of one {label}.",
        "a doodle of a {label}.",
        "a close-up photo of the {label}.",
        "a photo of a {label}.",
        "the origami {label}.",
        "the {label} in a video game.",
        "a sketch of a {label}.",
        "a doodle of the {label}.",
        "a origami {label}.",
        "a low resolution photo of a {label}.",
        "the toy {label}.",
        "a rendition of the {label}.",
        "a photo of the clean {label}.",
        "a photo of a large {label}.",
        "a rendition of a {label}.",
        "a photo of a nice {label}.",
        "a photo of a weird {label}.",
        "a blurry photo of a {label}.",
        "a cartoon {label}.",
        "art of a {label}.",
        "a sketch of the {label}.",
        "a embroidered {label}.",
        "a pixelated photo of a {label}.",
        "itap of the {label}.",
        "a jpeg corrupted photo of the {label}.",
        "a good photo of a {label}.",
        "a plushie {label}.",
        "a photo of the nice {label}.",
        "a photo of the small {label}.",
        "a photo of the weird {label}.",
        "the cartoon {label}.",
        "art of the {label}.",
        "a drawing of the {label}.",
        "a photo of the large {label}.",
        "a black and white photo of a {label}.",
        "the plushie {label}.",
        "a dark photo of a {label}.",
        "itap of a {label}.",
        "graffiti of the {label}.",
        "a toy {label}.",
        "itap of my {label}.",
        "a photo of a cool {label}.",
        "a photo of a small {label}.",
        "a tattoo of the {label}.",
    ),
}

__all__ = ["PROMPT_SETS"]
