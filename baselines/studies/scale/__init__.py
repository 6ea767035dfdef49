"""The scale study: do small forests rank direction scores and methods as large ones do?"""
