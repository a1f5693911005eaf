"""The published loss weights and special tokens of each task."""

#: (lt, img, rt)
LOSS_WEIGHTS = {
    "TextQA": (1.0, 0.01, 7.0),
    "MathQA": (1.0, 0.01, 7.0),
    "ImageGeneration": (1.0, 7.0, 0.01),
    "ImageCaptioning": (1.0, 1.0, 7.0),
    "VisualQA": (1.0, 1.0, 7.0),
    "TRitW": (1.0, 1.0, 7.0),
}
#: Of the left and of the right text.
TASK_TOKENS = {
    "TextQA": ("LT_TQA", "RT_TQA"),
    "MathQA": ("LT_MQA", "RT_MQA"),
    "ImageGeneration": ("LT_GEN", "RT_UNK"),
    "ImageCaptioning": ("LT_CAP", "RT_CAP"),
    "VisualQA": ("LT_VQA", "RT_VQA"),
    "TRitW": ("LT_REC", "RT_REC"),
}
UNKNOWN_TOKENS = ("LT_UNK", "RT_UNK")
