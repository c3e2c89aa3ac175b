"""Admission: may this request enter, and as which job?"""
